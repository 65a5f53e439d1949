package idptest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"testing"
)

// The rows that the first issue needs are in the table, each with a fault that
// changes something or a reason to behave.
func TestRowsAreComplete(t *testing.T) {
	var ids []string
	for _, row := range Rows() {
		ids = append(ids, row.ID)
		if row.Module == "" || (row.Reason != "" && len(row.Faults) == 0) {
			t.Errorf("row %s expects a refusal without a fault", row.ID)
		}
	}
	// C28 takes two sign-ins with Rotate between them; C7 to C13 are below C14.
	for _, id := range []string{"C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10", "C11", "C12", "C13", "C14", "C16", "C17", "C18", "C23", "C24", "C25", "C26", "C27", "C29"} {
		if !slices.Contains(ids, id) {
			t.Errorf("row %s is missing", id)
		}
	}
}

func TestFaultsComeAndGo(t *testing.T) {
	s := New(t)
	issuer := func() any {
		response, err := http.Get(s.URL + string(AtMetadata))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		var document map[string]any
		if err := json.Unmarshal(body, &document); err != nil {
			t.Fatal(err)
		}
		return document["issuer"]
	}
	if got := issuer(); got != s.URL {
		t.Fatalf("issuer %v", got)
	}
	s.Use(Metadata(func(m map[string]any) { m["issuer"] = "x" }))
	if got := issuer(); got != "x" {
		t.Fatalf("issuer %v with the fault", got)
	}
	s.Use()
	if got := issuer(); got != s.URL {
		t.Fatalf("issuer %v after the fault", got)
	}
	if n := s.Count(AtMetadata); n != 3 {
		t.Fatalf("counted %d requests, want 3", n)
	}
	s.Forget()
	if n := s.Count(AtMetadata); n != 0 {
		t.Fatalf("counted %d requests after Forget", n)
	}
}
