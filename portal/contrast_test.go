package portal

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestContrast: text stands out 4.5 to 1 and what shows the focus or the edge of a field
// 3 to 1, in both schemes (WCAG 2.2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	t.Parallel()
	css := string(styleCSS.body)
	light, rest, ok := strings.Cut(css, "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	dark, _, _ := strings.Cut(rest, "*, ::before")
	for scheme, text := range map[string]string{"light": light, "dark": dark} {
		colours := make(map[string]string)
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			colours[m[1]] = m[2]
		}
		for _, pair := range []struct {
			ink, ground string
			want        float64
		}{
			{"text", "page", 4.5}, {"text", "card", 4.5}, {"text", "alarm-page", 4.5},
			{"soft", "page", 4.5}, {"soft", "card", 4.5}, {"soft", "alarm-page", 4.5},
			{"main", "card", 4.5}, {"main-over", "card", 4.5}, {"on-main", "main", 4.5}, {"on-main", "main-over", 4.5},
			{"alarm", "card", 4.5}, {"alarm", "alarm-page", 4.5}, {"alarm-over", "card", 4.5}, {"alarm-over", "alarm-page", 4.5},
			{"on-alarm", "alarm", 4.5}, {"on-alarm", "alarm-over", 4.5},
			{"focus", "page", 3}, {"focus", "card", 3}, {"focus", "alarm-page", 3},
		} {
			ink, ground := colours[pair.ink], colours[pair.ground]
			if ink == "" || ground == "" {
				t.Errorf("%s: no colour %s or %s", scheme, pair.ink, pair.ground)
				continue
			}
			if got := contrast(t, ink, ground); got < pair.want {
				t.Errorf("%s: %s on %s is %.2f to 1, want %.1f", scheme, pair.ink, pair.ground, got, pair.want)
			}
		}
	}
}

// contrast is the ratio of WCAG 2.2, "contrast ratio".
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + .05) / (min(x, y) + .05)
}

func luminance(t *testing.T, colour string) (l float64) {
	t.Helper()
	n, err := strconv.ParseUint(colour[1:], 16, 24)
	if err != nil {
		t.Fatal(err)
	}
	for i, weight := range []float64{.0722, .7152, .2126} { // blue, green, red
		c := float64(n>>(8*i)&255) / 255
		if c <= .04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}
