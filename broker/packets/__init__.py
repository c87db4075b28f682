"""Bytes to alerts: one file a survey, one columnar decoder, one alert table."""
