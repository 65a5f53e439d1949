package portal

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAnswersOfStrangers: a stranger's page can send a browser here with forms as often as it likes. What they leave is gone when the
// browser has followed them: with a few of these cookies at once every request of the person would be too large for the server.
func TestAnswersOfStrangers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("c", 2000)
	t.Run("what a form left is gone with its own callback", func(t *testing.T) {
		t.Parallel()
		_, b := posts(t)
		for i := range 8 {
			to := b.arrives("hospital", fmt.Sprintf("state=planted%d&code=%s", i, long)).Header().Get("Location")
			b.expectFailure(b.get(to, fromProvider), pageAttempt, reasonMissing)
			if names := b.answerCookies(); len(names) != 0 {
				t.Fatalf("after %d forms of a stranger the browser holds %v", i+1, names)
			}
		}
	})
	t.Run("those that were not followed are gone with any callback", func(t *testing.T) {
		t.Parallel()
		_, b := posts(t)
		for i := range answerMax + 1 {
			b.arrives("hospital", fmt.Sprintf("state=planted%d&code=%s", i, long))
		}
		expect(t, b.get("/.anteroom/callback/hospital?state=another&code=x", fromProvider), http.StatusBadRequest)
		if names := b.answerCookies(); len(names) != 0 {
			t.Errorf("the browser still holds %v", names)
		}
	})
	t.Run("the answer of a person's own attempt survives them", func(t *testing.T) {
		t.Parallel()
		_, b := posts(t)
		own := b.arrives("hospital", "state="+b.begin("hospital", "/mine")+"&code=c").Header().Get("Location")
		stray := b.arrives("hospital", "state=planted&code="+long).Header().Get("Location")
		b.get(stray, fromProvider)
		answer := b.get(own, fromProvider)
		expect(t, answer, http.StatusSeeOther)
		b.mustSession()
	})
}
