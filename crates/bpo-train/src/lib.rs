//! The BPO loop: sample, judge, score, step, refresh
