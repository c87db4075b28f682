"""The subcommands of `rayfinch`, one file a group."""
