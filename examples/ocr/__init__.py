"""Text recognition in plain C++17 on two compiled networks."""
