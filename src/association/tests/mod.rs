//! Proves the machine: scripts for each state and event, random faults, and an exhaustive model.
