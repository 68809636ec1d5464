"""The normal store: a Parquet dataset of what the detector saw, beside its verdict.

    URL/group=NAME/date=YYYY-MM-DD/part-TOPIC-PARTITION-FIRSTOFFSET.parquet

The only package that knows the store's side of pyarrow. Names in paths are percent-encoded.
"""

from stream_detector.adapters.store.layout import store_path
from stream_detector.adapters.store.reader import ParquetStoreReader
from stream_detector.adapters.store.writer import ParquetStore, StoreStats

__all__ = ["ParquetStore", "ParquetStoreReader", "StoreStats", "store_path"]
