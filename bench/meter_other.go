//go:build !linux

package main

import "errors"

// processorTimes returns nothing: the report then shows no processor time.
func processorTimes([]watched) (map[string]usage, error) { return map[string]usage{}, nil }

// memoryOf is not supported.
func memoryOf(int) (mib float64, err error) { return 0, errors.ErrUnsupported }

func hardware() (processor string, gib uint64) { return "", 0 }
