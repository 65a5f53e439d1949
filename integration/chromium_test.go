package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// chromium is a real browser with a home of its own: an empty profile and a trust store with the roots that the test gives it.
type chromium struct {
	ctx   context.Context
	shots string
}

// newChromium starts a headless Chromium that finds *.test on 127.0.0.1 and trusts the given roots only (NSS; the chain and the
// names are checked as for any site).
func newChromium(t testing.TB, roots ...[]byte) *chromium {
	t.Helper()
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	certutil(t, home, "-N", "--empty-password")
	for i, root := range append([][]byte{ca().pem}, roots...) {
		file := filepath.Join(home, "root.pem")
		write(t, file, string(root))
		certutil(t, home, "-A", "-t", "C,,", "-n", "root"+string(rune('0'+i)), "-i", file)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.WindowSize(1000, 1200), chromedp.Env("HOME="+home),
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1, MAP *.localhost 127.0.0.1"),
		chromedp.Flag("disable-component-update", true),
		chromedp.WSURLReadTimeout(patience), // until the browser has started
	)
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(alloc)
	t.Cleanup(func() { stop(); stopAlloc() })
	c := &chromium{ctx: ctx, shots: artifacts(t)}
	if err := chromedp.Do(ctx); err != nil { // starts the browser; a time limit here would end it
		t.Fatalf("starting Chromium: %v", err)
	}
	return c
}

func certutil(t testing.TB, home string, args ...string) {
	t.Helper()
	args = append([]string{"-d", "sql:" + filepath.Join(home, ".pki", "nssdb")}, args...)
	if out, err := exec.Command("certutil", args...).CombinedOutput(); err != nil {
		t.Fatalf("certutil %v: %v\n%s", args, err, out)
	}
}

// do runs steps; it fails the test when its patience ends, with a screenshot of what was there then.
func (c *chromium) do(t testing.TB, what string, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		c.screenshot(t, "failed")
		t.Fatalf("Chromium: %s: %v; the page is %s:\n%s", what, err, c.location(t), c.text(t))
	}
}

// navigate opens a URL and returns the status of the page it ends at.
func (c *chromium) navigate(t testing.TB, rawURL string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	res, err := chromedp.Run(ctx, chromedp.NavigateResponse(rawURL))
	if err != nil {
		t.Fatalf("Chromium: opening %s: %v", rawURL, err)
	}
	if res == nil {
		return 0 // the same page at another fragment: nothing was fetched
	}
	return int(res.Status)
}

// click presses what the CSS selector names and waits for the page that follows; it returns its status.
func (c *chromium) click(t testing.TB, css string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	res, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(css)))
	if err != nil {
		c.screenshot(t, "failed")
		t.Fatalf("Chromium: clicking %s: %v; the page is %s:\n%s", css, err, c.location(t), c.text(t))
	}
	return int(res.Status)
}

// text is what a person can read on the page.
func (c *chromium) text(t testing.TB) string {
	t.Helper()
	return c.eval(t, `document.body ? document.body.innerText : ""`)
}

func (c *chromium) location(t testing.TB) string {
	t.Helper()
	return c.eval(t, `document.location.href`)
}

func (c *chromium) eval(t testing.TB, js string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	s, err := chromedp.Run(ctx, chromedp.Evaluate[string](js))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return s
}

// waitText waits until the page shows a text.
func (c *chromium) waitText(t testing.TB, want string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(c.text(t), want) {
		if time.Now().After(deadline) {
			c.screenshot(t, "failed")
			t.Fatalf("Chromium: %q does not appear at %s:\n%s", want, c.location(t), c.text(t))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// screenshot keeps a picture of the page as <name>.png.
func (c *chromium) screenshot(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Errorf("Chromium: screenshot %s: %v", name, err)
		return
	}
	if len(png) < 1000 {
		t.Errorf("Chromium: screenshot %s has only %d bytes", name, len(png))
	}
	if err := os.WriteFile(filepath.Join(c.shots, name+".png"), png, 0o644); err != nil {
		t.Error(err)
	}
}

// signIn fills the provider's form.
func (c *chromium) signIn(t testing.TB, user, password string) int {
	t.Helper()
	c.do(t, "filling the sign-in form",
		chromedp.SendKeys(chromedp.CSS("input[name=username]"), user),
		chromedp.SendKeys(chromedp.CSS("input[name=password]"), password))
	return c.click(t, "form button")
}
