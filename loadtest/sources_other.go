//go:build !linux

package loadtest

// localSources measures nothing: only Linux shows other processes without a C compiler.
func localSources(endpoints) []Source { return nil }

// processorName is not known.
func processorName() string { return "" }
