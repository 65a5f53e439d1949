package emergency

import (
	"strings"
	"testing"
)

// TestLongestLine: the longest line that a policy loads (1024 bytes) fits into record and cookie, with a long path.
func TestLongestLine(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	g := r.grant("7")
	g.Rule = "break_glass role doctor on /patients/{patient}/** for 30m when " + strings.Repeat(`"`, 100)
	g.Rule += strings.Repeat("x", 1024-len(g.Rule))
	g.Patient = strings.Repeat("7", 255)
	g.Scope = "/patients/" + g.Patient
	line, _ := r.begin(l, g)
	r.wantActive(l, line, g.Patient)
}
