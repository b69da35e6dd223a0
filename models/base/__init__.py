"""What the methods inherit: prediction, calibration, saving, and fitting."""
