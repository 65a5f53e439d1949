package portal

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestKeptReachesTheSession: what a source keeps is never with the browser, and is
// there when the sign-in went by way of the question whether to move here.
func TestKeptReachesTheSession(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("refresh-token-of-adoe", 300) // larger than any cookie
	h := newRich("hospital", "Hospital")
	h.id.Keep = []byte(secret)
	w := newWorld(t, h).limits(1, session.Move)
	first := w.browser()
	answer := first.signIn("hospital", "/")
	check := func(b *browser) {
		t.Helper()
		kept, err := w.sessions.Kept(t.Context(), b.mustSession().ID)
		if err != nil || string(kept) != "https://hospital.example\x00"+secret {
			t.Errorf("kept %.40q, %v", kept, err)
		}
		for name, value := range b.jar {
			if len(value) > 2000 || strings.Contains(value, "refresh") {
				t.Errorf("22: %s holds %.60s", name, value)
			}
		}
	}
	check(first)
	if strings.Contains(fmt.Sprint(answer.Header()), "refresh") {
		t.Error("22: a token reaches the browser")
	}
	second := w.browser()
	page, ticket := second.waits(chrome, "/x")
	if strings.Contains(page.Body.String(), "refresh") {
		t.Error("22: a token stands on a page")
	}
	expect(t, second.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
	check(second)
	t.Run("gone from the store meanwhile", func(t *testing.T) {
		third := w.browser()
		_, ticket := third.waits(chrome, "/x")
		items, err := w.store.List(t.Context(), labelMoveKeepID)
		if err != nil || len(items) != 1 {
			t.Fatalf("%d waiting, %v", len(items), err)
		}
		if strings.Contains(string(items[0].Value), "refresh") {
			t.Error("the store holds it as it is")
		}
		if err := w.store.Delete(t.Context(), items[0].Key); err != nil {
			t.Fatal(err)
		}
		expect(t, third.form("/.anteroom/move", "id="+ticket), http.StatusBadRequest, pageMove.title)
		third.mustNoSession()
	})
	t.Run("not moved, not kept", func(t *testing.T) {
		fourth := w.browser()
		fourth.waits(chrome, "/x")
		expect(t, fourth.get("/.anteroom/move?stay=1"), http.StatusOK)
		if items, err := w.store.List(t.Context(), labelMoveKeepID); err != nil || len(items) != 0 {
			t.Errorf("%d waiting, %v", len(items), err)
		}
	})
}
