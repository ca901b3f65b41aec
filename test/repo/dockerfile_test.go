package repo

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where no engine can build the image, this is what can be known of it: the lines that make it what it has to be are
// there, and its build line builds a program that works.

// instruction is one line of the Dockerfile, joined.
type instruction struct{ name, args string }

func dockerfile() ([]instruction, error) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		return nil, err
	}
	var list []instruction
	for line := range strings.SplitSeq(strings.ReplaceAll(string(text), "\\\n", " "), "\n") {
		if name, args, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(name, "#") {
			list = append(list, instruction{name, strings.Join(strings.Fields(args), " ")})
		}
	}
	return list, nil
}

func TestTheImageHoldsTheProgramAlone(t *testing.T) {
	list, err := dockerfile()
	require.NoError(t, err)
	last := -1 // the stage that is shipped
	for i, in := range list {
		if in.name == "FROM" {
			last = i
		}
	}
	require.Equal(t, instruction{"FROM", "scratch"}, list[last], "no shell, no packages")
	mod, err := exec.Command("go", "list", "-m", "-f", "{{.GoVersion}}").Output()
	require.NoError(t, err)
	minor := strings.Join(strings.Split(strings.TrimSpace(string(mod)), ".")[:2], ".")
	require.Regexp(t, `^golang:`+regexp.QuoteMeta(minor)+`\.\d+ AS build$`, list[0].args)

	shipped := list[last:]
	for _, in := range []instruction{
		{"COPY", "--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt"},
		{"COPY", "--from=build /out/tradestore /tradestore"},
		{"USER", "65532:65532"},
		{"EXPOSE", "8000 8001"},
		{"ENTRYPOINT", `["/tradestore"]`},
	} {
		require.Contains(t, shipped, in)
	}
	for _, in := range shipped {
		require.NotContains(t, []string{"RUN", "ADD", "VOLUME", "SHELL"}, in.name,
			"nothing can run in it, and it writes nothing")
		if in.name == "HEALTHCHECK" {
			_, command, ok := strings.Cut(in.args, "CMD ")
			require.True(t, ok)
			var args []string
			require.NoError(t, json.Unmarshal([]byte(command), &args))
			require.Equal(t, []string{"/tradestore", "healthcheck"}, args)
		}
	}
	require.True(t, slices.ContainsFunc(shipped, func(in instruction) bool { return in.name == "HEALTHCHECK" }))
}

// imageBinary is what the build line of the Dockerfile builds, with the arguments that stamp it.
var imageBinary = sync.OnceValues(func() (string, error) {
	list, err := dockerfile()
	if err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "tradestore-image")
	env, line := os.Environ(), ""
	for _, in := range list {
		if in.name == "ENV" {
			env = append(env, in.args)
		}
		if at := strings.Index(in.args, "go build"); in.name == "RUN" && at >= 0 {
			line = in.args[at:]
		}
	}
	build := exec.Command("sh", "-c", strings.ReplaceAll(line, "/out/tradestore", "'"+path+"'"))
	build.Env = append(env, "VERSION=v9.8.7", "COMMIT=abc", "DATE=2026-01-02T03:04:05Z")
	build.Stderr = os.Stderr
	return path, build.Run()
})

func TestTheBuildLineOfTheImageBuilds(t *testing.T) {
	path, err := imageBinary()
	require.NoError(t, err)
	text, err := exec.Command(path, "version", "--json").Output()
	require.NoError(t, err)
	var build map[string]string
	require.NoError(t, json.Unmarshal(text, &build))
	require.Equal(t, "v9.8.7", build["version"])
	require.Equal(t, "abc", build["commit"])
	require.Equal(t, "2026-01-02T03:04:05Z", build["date"])

	help, err := exec.Command(path, "--help").Output()
	require.NoError(t, err)
	require.Contains(t, string(help), "healthcheck")
	require.NotContains(t, string(help), "\n  dev ", "built with the tag production")
}

// What is not read by the build and could do harm in an image is left out of its context.
func TestTheContextOfTheImageHasNoData(t *testing.T) {
	ignored := strings.Fields(string(read(t, ".dockerignore")))
	for _, name := range []string{".git", "tradestore-data", "tradestore-stack", ".env", "bin", "coverage"} {
		require.Contains(t, ignored, name)
	}
	for _, p := range list(t, "-deps", "-tags", "production", ".") {
		folder, ours := place(p.ImportPath)
		require.False(t, ours && slices.Contains(ignored, strings.SplitN(folder, "/", 2)[0]), "%s is needed by the build",
			folder)
	}
}
