package emergency

import (
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
)

// Row 156: every value that this package seals in the store opens under the label that SealedAt names, so that it can be sealed
// anew.
func TestRow156SealedAtKnowsAll(t *testing.T) {
	r := newRig(t)
	l, told := r.node()
	r.begin(l, r.grant("7"))
	items, err := r.store.Store.List(t.Context(), "anteroom/")
	if err != nil {
		t.Fatal(err)
	}
	r.clock.add(15 * 24 * time.Hour)
	r.sweep(l) // somebody is reminded of the review
	told()
	later, err := r.store.Store.List(t.Context(), "anteroom/")
	if err != nil {
		t.Fatal(err)
	}
	items = append(items, later...)
	kinds := map[string]bool{}
	for _, item := range items {
		if _, sealed := envelope.KeyOf(item.Value); !sealed {
			if _, ok := SealedAt(item.Key); ok {
				t.Errorf("%s is not sealed", item.Key)
			}
			continue
		}
		label, ok := SealedAt(item.Key)
		if !ok {
			t.Errorf("%s has no label", item.Key)
		}
		if _, err := r.sealer.Open(t.Context(), label, item.Value); err != nil {
			t.Errorf("%s: %v", item.Key, err)
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(item.Key, "anteroom/emergency/"), "/")
		kinds[kind] = true
	}
	for _, kind := range []string{"record", "bucket", "buckets", "person", "overdue"} {
		if !kinds[kind] {
			t.Errorf("nothing of %s was written: %v", kind, kinds)
		}
	}
	for _, key := range []string{"", labelRecord, labelCookie + "/x", labelBuckets + "/x", "anteroom/session/record/v1/x"} {
		if label, ok := SealedAt(key); ok || label != "" {
			t.Errorf("%q is sealed as %q", key, label)
		}
	}
}
