package cmd

import (
	"context"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the summary of --help.
func (completionCommand) Help() string {
	return `Examples:

    source <(tradestore completion bash)
    source <(tradestore completion zsh)
    tradestore completion fish | source`
}

func (c *completionCommand) run(_ context.Context, p *process) error {
	model, err := Model()
	if err != nil {
		return err
	}
	script := map[string]*template.Template{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	return script.Execute(p.stdout, model)
}

// inScript is what the templates have beside the grammar. Names of commands and flags are plain words, help is not.
var inScript = template.FuncMap{
	"commands": func(app *kong.Application) string {
		names := make([]string, len(app.Children))
		for i, command := range app.Children {
			names[i] = command.Name
		}
		return strings.Join(names, " ")
	},
	"flags": func(command *kong.Node) string {
		var names []string
		for _, flag := range command.Flags {
			names = append(names, "--"+flag.Name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	},
	"words": func(command *kong.Node) string { // in place of file names
		var words []string
		for _, arg := range command.Positional {
			words = append(words, arg.EnumSlice()...)
		}
		return strings.Join(words, " ")
	},
	"quote": func(text string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'" },
}

func script(name, text string) *template.Template {
	return template.Must(template.New(name).Funcs(inScript).Parse(text))
}

// After a command its flags are offered, and everywhere else what the shell offers by itself: file names.
const bash = `_tradestore() {
	local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} flags= words=
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W '{{commands .}} --help' -- "$word"))
		return
	fi
	case $command in
{{- range .Children}}
	{{.Name}}) flags='{{flags .}}' words='{{words .}}' ;;
{{- end}}
	esac
	case $word in
	-*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
	*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
	esac
}
complete -o bashdefault -o default -F _tradestore tradestore
`

var (
	bashScript = script("bash", bash)
	zshScript  = script("zsh", "autoload -U +X compinit bashcompinit && compinit && bashcompinit\n"+bash)
	fishScript = script("fish", `{{range .Children -}}
{{$name := .Name -}}
complete -c tradestore -n __fish_use_subcommand -f -a {{.Name}} -d {{quote .Help}}
{{range .Flags -}}
complete -c tradestore -n '__fish_seen_subcommand_from {{$name}}' -l {{.Name}}{{if not .IsBool}} -r{{end}} -d {{quote .Help}}
{{end -}}
{{with words . -}}
complete -c tradestore -n '__fish_seen_subcommand_from {{$name}}' -f -a '{{.}}'
{{end -}}
{{end -}}
`)
)
