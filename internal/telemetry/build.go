package telemetry

import (
	"runtime"
	"runtime/debug"
)

// version, commit and date are set by the linker, like -ldflags "-X tradestore/internal/telemetry.version=v1.2.3". What
// is not set comes from the build information of the Go tool, if there is any.
var version, commit, date string

// Build is the identity of a binary.
type Build struct {
	Version string `json:"version"` // a release, or "dev"
	Commit  string `json:"commit"`  // of the source; "-dirty" is added when it had been edited
	Date    string `json:"date"`    // RFC 3339: of the build, or of the commit when the linker was given none
	Go      string `json:"go"`      // version of the compiler
}

// ReadBuild returns the identity of the running binary. Fields that are not known are "unknown".
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describe(Build{version, commit, date, runtime.Version()}, info)
}

func describe(b Build, info *debug.BuildInfo) Build {
	recorded := make(map[string]string, len(info.Settings))
	for _, s := range info.Settings {
		recorded[s.Key] = s.Value
	}
	if b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	if b.Commit == "" && recorded["vcs.revision"] != "" {
		b.Commit = recorded["vcs.revision"]
		if recorded["vcs.modified"] == "true" {
			b.Commit += "-dirty"
		}
	}
	if b.Date == "" {
		b.Date = recorded["vcs.time"]
	}
	for _, field := range []*string{&b.Commit, &b.Date} {
		if *field == "" {
			*field = "unknown"
		}
	}
	return b
}
