"""Hostile packets through the whole stream: made by mutation, sent among healthy ones, each accounted for."""
