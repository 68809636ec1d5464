"""The commands of stream-trainer, one file each: read options, wire, print."""
