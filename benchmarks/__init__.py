"""Speed, memory and accuracy, measured and recorded: each program prints a table and writes benchmarks/results/NAME-DEVICE.json."""
