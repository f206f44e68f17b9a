"""The dashboard's pages: layout only. What they show comes from `cache`, as frames and figures."""
