package portal

import (
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// Row 156: every value that this package seals in the store opens under the label that SealedAt names, so that it can be sealed
// anew.
func TestRow156SealedAtKnowsAll(t *testing.T) {
	t.Parallel()
	h := newRich("hospital", "Hospital")
	h.id.Keep = []byte("refresh-token")
	w := newWorld(t, h).limits(1, session.Move)
	w.browser().signIn("hospital", "/")
	w.browser().waits(chrome, "/x")
	items, err := w.store.List(t.Context(), "anteroom/portal/")
	if err != nil {
		t.Fatal(err)
	}
	sealed := 0
	for _, item := range items {
		label, ok := SealedAt(item.Key)
		_, err := w.sealer.Open(t.Context(), label, item.Value)
		if ok != (err == nil) || !ok && len(item.Value) > 32 { // a mark or a time is short
			t.Errorf("%s: label %q, %v", item.Key, label, err)
		}
		if ok {
			sealed++
		}
	}
	if sealed == 0 || len(items) <= sealed {
		t.Errorf("%d values, %d of them sealed", len(items), sealed)
	}
	for _, key := range []string{"", labelMoveKeepID, labelMoveKeep + "/x", strings.TrimSuffix(labelMoveKeepID, "1") + "2/x"} {
		if label, ok := SealedAt(key); ok || label != "" {
			t.Errorf("%q is sealed as %q", key, label)
		}
	}
}
