package portal

import (
	"net/http"
	"strings"
	"testing"
)

// Whom to ask is said by the site that somebody is at, on the pages of emergency access as on the refusal before them:
// who asks the wrong desk breaks the glass in the end.
func TestContactOfTheSite(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	site := "ward 3, <b>telephone</b> 4711"
	g.portal.siteAsks = func(*http.Request) string { return site }
	for _, address := range []string{"?return_to=/patients/7", "?return_to=/closed"} {
		page := b.get(glassPath + address).Body.String()
		if !strings.Contains(page, "ward 3, &lt;b&gt;telephone&lt;/b&gt; 4711") || strings.Contains(page, "5-1234") {
			t.Errorf("%s does not name the site's own:\n%s", address, page)
		}
	}
	site = ""
	expect(t, b.get(glassPath+"?return_to=/patients/7"), http.StatusOK, "IT help desk, 5-1234")
}
