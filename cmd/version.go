package cmd

import (
	"context"
	"encoding/json"
	"fmt"

	"tradestore/internal/telemetry"
)

type versionCommand struct {
	JSON bool `env:"-" help:"As one JSON object."`
}

func (c *versionCommand) run(_ context.Context, p *process) error {
	build := telemetry.ReadBuild()
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(build)
	}
	_, err := fmt.Fprintf(p.stdout, "tradestore %s\ncommit     %s\ndate       %s\ngo         %s\n", build.Version,
		build.Commit, build.Date, build.Go)
	return err
}
