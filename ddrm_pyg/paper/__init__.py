"""The evaluation of the DDRM paper: its tables and figures from cells to pages."""
