package budget

import (
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
)

// Row 156: every value that this package seals in the store opens under the label that SealedAt names, so that it can be sealed
// anew.
func TestRow156SealedAtKnowsAll(t *testing.T) {
	r := newRig(t)
	r.count(r.node(), dana, "7", sixty, time.Time{})
	items, err := r.store.Store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	sealed := 0
	for _, item := range items {
		label, ok := SealedAt(item.Key)
		if _, is := envelope.KeyOf(item.Value); is != ok {
			t.Errorf("%s: sealed %v, label %q", item.Key, is, label)
		} else if is {
			sealed++
			if _, err := r.sealer.Open(t.Context(), label, item.Value); err != nil {
				t.Errorf("%s: %v", item.Key, err)
			}
		}
	}
	if sealed != 1 {
		t.Errorf("%d sealed values", sealed)
	}
	for _, key := range []string{"", labelRecord, labelValue + "/x", labelRecord + "x/y"} {
		if label, ok := SealedAt(key); ok || label != "" {
			t.Errorf("%q is sealed as %q", key, label)
		}
	}
}
