//go:build !linux

package main

// processorTimes knows nothing here: the report then shows no processor time.
func processorTimes([]watched) (map[string]usage, error) { return map[string]usage{}, nil }

func hardware() (processor string, gib uint64) { return "", 0 }
