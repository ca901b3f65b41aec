//go:build !linux

package loadtest

// localSources returns nothing: only Linux shows other processes without cgo.
func localSources(endpoints) []Source { return nil }

// processorName returns nothing.
func processorName() string { return "" }
