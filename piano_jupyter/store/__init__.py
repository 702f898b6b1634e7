"""The memory: what was said, asked, run or failed, as rows that outlive the kernel."""
