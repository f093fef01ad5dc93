"""`antiphon chaos` and `antiphon soak`: load on a stack of their own, with faults by a seeded schedule or none."""
