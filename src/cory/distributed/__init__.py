"""Several processes: who does which rows, weights sharded by FSDP2, memory of a device."""
