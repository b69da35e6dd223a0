"""Bringing pictures in: data sets in MVTec AD's layout, and a generated sample of one."""
