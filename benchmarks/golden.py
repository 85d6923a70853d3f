"""The golden values of a schedule with T = 100 000, and all stored values generated anew.

    python benchmarks/golden.py
"""
