"""What tests share: cases made by hand, stand-ins, and real servers."""
