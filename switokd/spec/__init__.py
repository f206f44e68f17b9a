"""What to train: checked, frozen and identified. No torch here."""
