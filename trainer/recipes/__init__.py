"""Every known setup, fitted and measured beside its baselines. A new one is a file and a line."""

from __future__ import annotations

from trainer.recipes import births, heartbeat, prices, synthetic, trace

RECIPES = {one.RECIPE.name: one.RECIPE for one in (births, heartbeat, prices, synthetic, trace)}
