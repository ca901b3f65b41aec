package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The script is run by the bash that is here, and asked what Tab would offer.
func TestCompletionInBash(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("needs bash")
	}
	_, text, _ := output("completion", "bash")
	script := filepath.Join(t.TempDir(), "completion.bash")
	require.NoError(t, os.WriteFile(script, []byte(text), 0o600))
	f := func(typed string, want ...string) {
		t.Helper()
		words := strings.Split(typed, " ")
		ask := exec.Command(bash, "--norc", "-uc",
			`source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); `+
				`_tradestore; echo "${COMPREPLY[*]-}"; complete -p tradestore >&2`,
			"-", script)
		ask.Args = append(ask.Args, words...)
		var said strings.Builder
		ask.Stderr = &said
		offered, err := ask.Output()
		require.NoError(t, err, said.String())
		require.Contains(t, said.String(), "-F _tradestore tradestore")
		require.Equal(t, strings.Join(want, " "), strings.TrimSpace(string(offered)))
	}
	f("tradestore st", "status")
	f("tradestore tr", "trades")
	f("tradestore --", "--help")
	f("tradestore status --w", "--watch")
	f("tradestore status ID --j", "--json")
	f("tradestore status ")
	f("tradestore completion ", "bash", "zsh", "fish")
	f("tradestore completion z", "zsh")
	f("tradestore unknown --")
	for name := range flagsOf(t) {
		f("tradestore " + name + " --no-such-flag")
		require.Contains(t, text, "\n\t"+name+") flags=")
	}
}

// No shell but bash has to be here, so the others are held to what their script has to name, and run where they are.
func TestCompletionInOtherShells(t *testing.T) {
	for _, shell := range []string{"zsh", "fish"} {
		code, text, _ := output("completion", shell)
		require.Equal(t, exitDone, code)
		for name, flags := range flagsOf(t) {
			require.Contains(t, text, name)
			for flag := range flags {
				require.Contains(t, text, flag)
			}
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		check := exec.Command(path, "-n")
		check.Stdin = strings.NewReader(text)
		said, err := check.CombinedOutput()
		require.NoError(t, err, string(said))
	}
	_, zsh, _ := output("completion", "zsh")
	require.Contains(t, zsh, "bashcompinit")
	_, fish, _ := output("completion", "fish")
	require.Contains(t, fish, `worker\'s /livez`, "help texts have quotes")

	code, _, stderr := output("completion", "ksh")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, `must be one of "bash","zsh","fish"`)
}

// flagsOf returns the flags of every command of this build.
func flagsOf(t *testing.T) map[string]map[string]bool {
	t.Helper()
	model, err := Model()
	require.NoError(t, err)
	found := map[string]map[string]bool{}
	for _, command := range model.Children {
		found[command.Name] = map[string]bool{}
		for _, flag := range command.Flags {
			found[command.Name][flag.Name] = true
		}
	}
	return found
}
