"""TFLite external delegates whose convolutions are compiled for one model and one processor."""
