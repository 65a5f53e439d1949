package portal

import (
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/policy"
)

// TestWhy: the page of a refusal says what kind of thing is missing, whom to ask and
// under which number (issue 5, number 10).
func TestWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/")
	s := b.mustSession()
	for m, texts := range map[policy.Missing][]string{
		0:                         {"This page is not for your role", "your role does not open"},
		policy.MissingRole:        {"This page is not for your role", "your role does not open"},
		policy.MissingNetwork:     {"This page does not open from here", "only from inside"},
		policy.MissingHours:       {"This page does not open now", "not open at this time of day"},
		policy.MissingLevel:       {"This page needs a stronger sign-in", "more recent sign-in"},
		policy.MissingDevice:      {"This browser is not known yet", "signed in with before"},
		policy.MissingOther:       {"This page does not open now", "something else"},
		1 << 7:                    {"This page does not open now", "something else"}, // of a later policy
		policy.MissingRole | 1<<7: {"This page does not open now", "<li>Your role does not open it.</li>", "<li>Something else"},
		policy.MissingNetwork | policy.MissingHours: {"This page does not open now", "<li>It opens only from inside", "<li>It does not open at this time"},
	} {
		answer := b.refuse("GET", "/patients/12", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2", Session: s, Missing: m, Contact: "IT help desk, 5-1234"})
		expect(t, answer, http.StatusForbidden, append(texts, "IT help desk, 5-1234", "7K3QWV9ZP2", "Switch user")...)
		if n := strings.Count(answer.Body.String(), "7K3QWV9ZP2"); n != 1 {
			t.Errorf("missing %b: the number stands there %d times", m, n)
		}
		if m&(m-1) == 0 && strings.Contains(answer.Body.String(), "<li>Y") {
			t.Errorf("missing %b: a list of one", m)
		}
	}
	t.Run("every kind has words of its own", func(t *testing.T) {
		var all policy.Missing
		seen := map[string]bool{}
		for _, k := range missing {
			if all&k.bit != 0 || seen[k.among] || len(k.alone.text) == 0 {
				t.Errorf("%b %q", k.bit, k.among)
			}
			all, seen[k.among] = all|k.bit, true
		}
	})
	t.Run("nobody to ask", func(t *testing.T) {
		expect(t, b.refuse("GET", "/x", Refusal{Kind: "forbidden", Session: s}), http.StatusForbidden, "the people who look after access in your organisation")
	})
	t.Run("whom the installation names", func(t *testing.T) {
		w := newWorld(t, newSource("hospital", "Hospital"))
		w.portal.contact = "Privacy office <privacy@hospital.example>"
		b := w.browser()
		b.signIn("hospital", "/")
		expect(t, b.refuse("GET", "/x", Refusal{Kind: "forbidden", Session: b.mustSession()}), http.StatusForbidden, "Privacy office &lt;privacy@hospital.example&gt;")
		expect(t, b.refuse("GET", "/x", Refusal{Kind: "budget", Session: b.mustSession(), Contact: "Ward 7"}), http.StatusForbidden, "<dd>Ward 7</dd>")
	})
	t.Run("budget", func(t *testing.T) {
		answer := b.refuse("GET", "/patients/61", Refusal{Kind: "budget", Ref: "7K3QWV9ZP2", Session: s})
		expect(t, answer, http.StatusForbidden, pageBudget.title, "stays open to you", "7K3QWV9ZP2", "Switch user")
		expect(t, b.refuse("GET", "/patients/61", Refusal{Kind: "budget", Status: 429, Session: s}), http.StatusTooManyRequests, pageBudget.title)
	})
}

// TestAttackWhy: the page helps nobody to map the rules (row 4.1, S17 in spirit; issue 5,
// number 10).
func TestAttackWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/")
	t.Run("a stranger learns nothing of what is missing", func(t *testing.T) {
		want := b.refuse("GET", "/x", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2"}).Body.String()
		for m := range policy.Missing(64) {
			got := b.refuse("GET", "/x", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2", Missing: m, Emergency: &policy.Emergency{Subject: "7", Scope: "/x"}})
			expect(t, got, http.StatusForbidden, pageStranger.title)
			if got.Body.String() != want {
				t.Errorf("missing %b shows: %s", m, got.Body)
			}
		}
	})
	t.Run("nothing of the path or of a rule", func(t *testing.T) {
		e := policy.Emergency{Rule: "break_glass role surgeon on /patients/**", Route: "/patients/**", Scope: "/patients/7", Subject: "7"}
		answer := b.refuse("POST", "/patients/7?x=1", Refusal{Kind: "forbidden", Session: b.mustSession(), Missing: policy.MissingHours | policy.MissingNetwork, Emergency: &e})
		for _, word := range []string{"surgeon", "patients", "**", "break_glass", "10.", ":00"} {
			if strings.Contains(answer.Body.String(), word) {
				t.Errorf("the page says %q: %s", word, answer.Body)
			}
		}
	})
	t.Run("two pages that lack the same look the same", func(t *testing.T) {
		one := b.refuse("POST", "/patients/7", Refusal{Kind: "forbidden", Session: b.mustSession(), Missing: policy.MissingHours})
		two := b.refuse("POST", "/payroll", Refusal{Kind: "forbidden", Session: b.mustSession(), Missing: policy.MissingHours})
		if one.Body.String() != two.Body.String() {
			t.Error("they differ")
		}
	})
}
