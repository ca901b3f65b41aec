package cmd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"tradestore/internal/apiclient"
)

type healthcheckCommand struct {
	Listen  string        `name:"listen" group:"network" default:"127.0.0.1:8000" help:"Address that the role listens on, host:port. For 0.0.0.0 or [::] the command connects to loopback."`
	URL     string        `name:"url" env:"-" group:"network" placeholder:"http://HOST:PORT/readyz" help:"What to ask instead, when the role is elsewhere."`
	Timeout time.Duration `name:"timeout" group:"tuning" default:"5s" help:"Time limit for the answer."`
}

// Help is shown below the summary of --help.
func (healthcheckCommand) Help() string {
	return `Ends with 0 if a role answers /readyz with 200, else with 1. In a container it reads the address from the same variable as the role. It needs no shell.

Example:

    TRADESTORE_LISTEN=0.0.0.0:8001 tradestore healthcheck`
}

// Validate says what is wrong with the settings.
func (c *healthcheckCommand) Validate() error {
	if _, err := c.Target(); err != nil {
		return err
	}
	if c.Timeout <= 0 {
		return fmt.Errorf("--timeout: %v is not positive", c.Timeout)
	}
	return nil
}

func (c *healthcheckCommand) run(ctx context.Context, p *process) error {
	target, err := c.Target()
	if err != nil {
		return err
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	path := u.RequestURI()
	u.Path, u.RawPath, u.RawQuery, u.Fragment = "", "", "", ""
	client := apiclient.New(u.String(), apiclient.Options{Conns: 1, Timeout: c.Timeout}) // the role itself, not a proxy
	defer client.Close()
	answer, err := client.Do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return fmt.Errorf("not ready: %w (--timeout %v)", err, c.Timeout)
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("not ready: %s answers %s: %.4096q", target, answer.StatusLine(), answer.Body)
	}
	fmt.Fprintln(p.stdout, "ready")
	return nil
}

// Target is the URL to ask.
func (c *healthcheckCommand) Target() (string, error) {
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", fmt.Errorf("--url: %q is not a URL like http://127.0.0.1:8000/readyz", c.URL)
		}
		return c.URL, nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "" || port == "0" {
		return "", fmt.Errorf("--listen: %q is not host:port, like 127.0.0.1:8000", c.Listen)
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/readyz", nil
}
