package portal

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

func TestDevice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ agent, platform, want string }{
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", `"Windows"`, "Chrome on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.68", `"Windows"`, "Edge on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/64.0.3282.140 Safari/537.36 Edge/18.17763", "", "Edge on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0", "", "Firefox on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", "", "Internet Explorer on Windows"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36 OPR/111.0.0.0", `"Windows"`, "Opera on Windows"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15", "", "Safari on Mac or iPad"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", `"macOS"`, "Chrome on macOS"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:127.0) Gecko/20100101 Firefox/127.0", "", "Firefox on macOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1", "", "Safari on iPhone or iPad"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1", "", "Chrome on iPhone or iPad"},
		{"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/127.0 Mobile/15E148 Safari/605.1.15", "", "Firefox on iPhone or iPad"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/126 Version/11.1.1 Safari/605.1.15", "", "Chrome on iPhone or iPad"},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36", `"Android"`, "Chrome on Android"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", `"Android"`, "Chrome on Android"}, // "desktop site"
		{"Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0", "", "Firefox on Android"},
		{"Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36", "", "Samsung Internet on Android"},
		{"Mozilla/5.0 (Linux; U; Android 4.0.3; de-ch; HTC) AppleWebKit/534.30 (KHTML, like Gecko) Version/4.0 Mobile Safari/534.30", "", "another browser on Android"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "", "Firefox on Linux"},
		{"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "", "Firefox on Linux"},
		{"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", `"Chrome OS"`, "Chrome on ChromeOS"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/126.0.0.0 Safari/537.36", "", "Chrome on Linux"},
		{"curl/8.5.0", "", "another browser on another system"},
		{"", "", "another browser on another system"},
		{"Mozilla/5.0", `"Windows"; <script>`, "another browser on another system"},
		{"<script>alert(1)</script>", `"Fuchsia"`, "another browser on another system"},
	} {
		r := &http.Request{Header: http.Header{"User-Agent": {c.agent}}}
		if c.platform != "" {
			r.Header.Set("Sec-CH-UA-Platform", c.platform)
		}
		if got := deviceName(deviceOf(r)); got != c.want {
			t.Errorf("%q, %s: %q, want %q", c.agent, c.platform, got, c.want)
		}
	}
}

func TestDeviceOdd(t *testing.T) {
	t.Parallel()
	firefox := "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
	for name, h := range map[string]http.Header{
		"none at all":          {},
		"two of them":          {"User-Agent": {firefox, firefox}},
		"the mark comes late":  {"User-Agent": {strings.Repeat("x", maxAgent) + firefox}},
		"a megabyte of nearly": {"User-Agent": {strings.Repeat("Chrome", 1<<18)}},
	} {
		if got := deviceOf(&http.Request{Header: h}); got.Browser != otherBrowser || got.System != otherSystem {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := deviceName(session.Device{}); got != "another browser on another system" {
		t.Errorf("a session without a device is called %q", got)
	}
}

// FuzzDevice: whatever is sent, the words are ours (part 6-A.9: no text of a
// request on a page).
func FuzzDevice(f *testing.F) {
	browsers, systems := []string{otherBrowser, "Safari"}, []string{otherSystem, "Mac or iPad"}
	for _, m := range browserMarks {
		browsers = append(browsers, m.word)
	}
	for _, m := range systemMarks {
		systems = append(systems, m.word)
	}
	f.Add("Mozilla/5.0 (Macintosh) Version/17.5 Safari/605.1.15", `"macOS"`)
	f.Add("\x00\xff%s%n{{.}}", "<b>")
	f.Fuzz(func(t *testing.T, agent, platform string) {
		d := deviceOf(&http.Request{Header: http.Header{"User-Agent": {agent}, "Sec-Ch-Ua-Platform": {platform}}})
		if !slices.Contains(browsers, d.Browser) || !slices.Contains(systems, d.System) {
			t.Errorf("%q, %q: %+v", agent, platform, d)
		}
	})
}
