package server

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// browser finds a browser on the machine, or skips the test: CI has none everywhere.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no Chromium or Chrome on this machine")
	return ""
}

// "Try it out" on the page posts a trade: under its policy, with nothing loaded from elsewhere, and without a complaint
// of the browser.
func TestDocsPageInABrowser(t *testing.T) {
	path := browser(t)
	a := start(t, nil)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // as root Chromium does not start with one
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	defer stop()
	ctx, quit := chromedp.NewContext(ctx)
	defer quit()

	var mu sync.Mutex
	var complaints, asked []string // protected by mu
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		mu.Lock()
		defer mu.Unlock()
		switch event := event.(type) {
		case *log.EventEntryAdded:
			complaints = append(complaints, event.Entry.Text)
		case *runtime.EventExceptionThrown:
			complaints = append(complaints, event.ExceptionDetails.Text)
		case *network.EventRequestWillBeSent:
			asked = append(asked, event.Request.URL)
		}
	}))
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	const post = "#operations-trades-submitTrade "
	require.NoError(t, chromedp.Do(ctx,
		chromedp.Navigate("http://"+a.addr+"/docs"),
		chromedp.Click(post+".opblock-summary-control"),
		chromedp.Click(post+".try-out__btn"),
		chromedp.Click(post+".execute"),
	))
	answer, err := chromedp.Run(ctx, chromedp.Text(post+".live-responses-table .response"))
	require.NoError(t, err)
	assert.Contains(t, answer, "202")
	assert.Contains(t, answer, `"request_id"`)
	a.records(1)

	mu.Lock()
	defer mu.Unlock()
	assert.Empty(t, complaints)
	for _, address := range asked {
		assert.True(t, strings.HasPrefix(address, "http://"+a.addr+"/") || strings.HasPrefix(address, "data:"), address)
	}
	t.Logf("%s\n%s", answer, strings.Join(asked, "\n"))
}
