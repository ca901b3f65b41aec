//go:build production

package cmd

// A production build has no developer commands, and so neither an embedded broker nor an embedded database.
type developerCommands struct{}

// hasDev says whether this build can start the embedded stack.
const hasDev = false

func maybeHelper() {}
