package cmd

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

type healthcheckCommand struct {
	Listen  string        `name:"listen" group:"network" default:"127.0.0.1:8000" help:"Address that the role was told to listen on, host:port. A wildcard is asked on loopback."`
	URL     string        `name:"url" env:"-" group:"network" placeholder:"http://HOST:PORT/readyz" help:"What to ask instead, when the role is elsewhere."`
	Timeout time.Duration `name:"timeout" group:"tuning" default:"5s" help:"Time limit for the answer."`
}

// Help is shown below the summary of --help.
func (healthcheckCommand) Help() string {
	return `Ends with 0 if a role answers /readyz with 200, else with 1. For images without a shell: in the container of a role it finds the address in the same environment.

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
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return fmt.Errorf("cannot ask %s: %w", target, err)
	}
	client := http.Client{ // the role itself and no proxy, and what it says and not where it sends us
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not ready: %w (--timeout %v)", err, c.Timeout)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, longestReason))
	if err != nil {
		return fmt.Errorf("not ready: %w (--timeout %v)", err, c.Timeout)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s answers %s: %q", target, answer.Status, body)
	}
	fmt.Fprintln(p.stdout, "ready")
	return nil
}

const longestReason = 4 << 10 // bytes; a role says in one line why it is not ready

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
