package loopback

import (
	"net/http"
	"strings"
	"testing"
)

// TestAllocations: a caller costs nothing on the heap before it is let in.
func TestAllocations(t *testing.T) {
	token, err := OpenTokenFile(writeToken(t, testToken, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	c, f := Callers{Token: token}, goodFacts()
	f.Header = http.Header{"Authorization": {"Bearer " + testToken}, "Content-Type": {"application/json"}, "X-Request-Id": {"7"}, "Idempotency_Key.Of_The_Caller-That-Is-Long": {"x"}}
	if n := testing.AllocsPerRun(100, func() {
		if v, _ := Judge(f, []string{"localhost"}); v != Local {
			t.Fatal(v)
		}
		if _, err := c.Check(f, f.Header); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

// TestTraceNames: every name and every prefix is found in each of its spellings, and all are shorter than what is compared.
func TestTraceNames(t *testing.T) {
	names := make([]string, 0, len(traceNames)+len(tracePrefixes))
	for name := range traceNames {
		names = append(names, name)
	}
	for _, p := range tracePrefixes {
		names = append(names, p, p+"x", p+"a-name-that-is-longer-than-what-is-compared-of-it")
	}
	for _, name := range names {
		for _, spelling := range []string{name, http.CanonicalHeaderKey(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(strings.ToUpper(name), "-", ".")} {
			if trace(http.Header{spelling: {"x"}, "Accept": {"x"}}) == "" {
				t.Errorf("%s passes", spelling)
			}
		}
		if len(name) >= longestTrace && traceNames[name] {
			t.Errorf("%s is longer than what is compared", name)
		}
	}
	for _, name := range []string{"Viaduct", "Via-X", "Originator", "Cookies", "Cookie2x", "X-Forward", "Sec", "X-Forwarder", "Purpose-Of-It", ""} {
		if got := trace(http.Header{name: {"x"}}); got != "" {
			t.Errorf("%q is taken for %q", name, got)
		}
	}
}
