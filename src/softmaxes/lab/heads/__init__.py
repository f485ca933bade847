"""The heads by name, and how those grow whose tree is learned."""

from softmaxes.lab.heads.registry import HEADS as HEADS
