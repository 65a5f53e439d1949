package idptest

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The rows that a library can show are in the table, each with a fault that changes
// something or a reason to behave.
func TestRowsAreComplete(t *testing.T) {
	var ids []string
	seen := map[string]bool{}
	for _, row := range Rows() {
		ids = append(ids, row.ID)
		if row.Module == "" || (row.Reason != "" && len(row.Faults) == 0) {
			t.Errorf("row %s expects a refusal without a fault", row.ID)
		}
		if seen[row.ID+" "+row.Module] {
			t.Errorf("row %s %s stands twice", row.ID, row.Module)
		}
		seen[row.ID+" "+row.Module] = true
	}
	for _, row := range RefreshRows() {
		ids = append(ids, row.ID)
		if row.Gone && row.Silent || (row.Gone || row.Silent) && len(row.Faults) == 0 && !row.Disabled && !row.Ended {
			t.Errorf("row %s %s expects a refusal without a fault", row.ID, row.Module)
		}
	}
	for _, id := range strings.Fields("C1 C2 C3 C4 C5 C6 C7 C8 C9 C10 C11 C12 C13 C14 C16 C17 C18 C20 C21 C22 C23 C24 C25 C26 C27 C28 C29 C30 C31 C32 " +
		"N1 N2 N3 N4 N6 N7 N8 N9 N11 N12 N14 N16 N17 N18 N19 N22 N28 N31 N32 N33 N38 N39 N41 N44") {
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
