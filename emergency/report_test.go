package emergency

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// G12: the report counts by month and site out of the logs of all nodes, whatever their order, and once.
func TestReport(t *testing.T) {
	one := `{"seq":1,"time":"2026-05-01T10:00:00.000Z","prev":"","kind":"log"}
{"time":"2026-05-01T10:00:00.000Z","kind":"emergency","ref":"A","site":"x","decision":"allowed","reason":"drill","drill":true}
{"time":"2026-05-01T10:00:01.000Z","kind":"request","ref":"R","site":"x","decision":"allowed","emergency":"A","drill":true}
{"time":"2026-05-01T10:30:00.000Z","kind":"emergency","ref":"A","site":"x","decision":"ended","reason":"expired","drill":true}
{"time":"2026-05-31T23:59:59.000Z","kind":"emergency","ref":"B","site":"x","decision":"allowed","reason":"life","degraded":"fresh-sign-in"}
{"time":"2026-06-01T00:00:00.000Z","kind":"emergency","ref":"C","site":"x","decision":"allowed","reason":"life"}
{"time":"2026-06-01T00:00:00.000Z","kind":"emergency","ref":"D","site":"y","decision":"allowed","reason":"life"}
{"time":"2026-06-01T00:00:00.000Z","kind":"emergency","ref":"E","site":"y","decision":"denied","reason":"emergency.closed"}
{"time":"2026-06-09T00:00:00.000Z","kind":"emergency","ref":"F","site":"y","decision":"allowed","reason":"life"}
not a record
`
	two := `{"time":"2026-05-02T10:00:00.000Z","kind":"review","ref":"A","decision":"allowed","reason":"review-accepted","rule":"reviewer eve"}
{"time":"2026-06-05T10:00:00.000Z","kind":"review","ref":"B","decision":"allowed","reason":"review-rejected","rule":"reviewer eve"}
{"time":"2026-06-02T10:00:00.000Z","kind":"review","ref":"C","decision":"allowed","reason":"review-accepted","rule":"reviewer eve"}
{"time":"2026-06-02T10:00:01.000Z","kind":"review","ref":"C","decision":"failed","reason":"review-accepted","rule":"reviewer eve"}
{"time":"2026-06-02T10:00:01.000Z","kind":"review","ref":"Z","decision":"allowed","reason":"review-accepted","rule":"reviewer eve"}
` + strings.Repeat("x", 2*maxLine) + "\n"
	want := []Month{
		{Month: "2026-05", Site: "x", Begun: 2, Drills: 1, Stale: 1, Reviewed: 2, Accepted: 1, Rejected: 1, Late: 1},
		{Month: "2026-06", Site: "x", Begun: 1, Overdue: 1},
		{Month: "2026-06", Site: "y", Begun: 2, Overdue: 1},
	}
	now := time.Date(2026, 6, 10, 0, 0, 0, 0, time.UTC)
	// The log went on in another file between a verdict and what became of it, and that file is named first.
	kept, failed, _ := strings.Cut(two, `{"time":"2026-06-02T10:00:01.000Z","kind":"review","ref":"C","decision":"failed"`)
	failed = `{"time":"2026-06-02T10:00:01.000Z","kind":"review","ref":"C","decision":"failed"` + failed
	for _, logs := range [][]string{{one, two}, {two, one}, {one, one, two}, {failed, kept, one}} {
		var r Report
		for _, log := range logs {
			if err := r.Read(strings.NewReader(log)); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.Months(now); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v\nwant %+v", got, want)
		}
		if r.Foreign() != 1 || r.Unreadable != strings.Count(strings.Join(logs, ""), "not a record\n")+strings.Count(strings.Join(logs, ""), "xx\n") {
			t.Errorf("%d without a beginning, %d unreadable", r.Foreign(), r.Unreadable)
		}
		if d := r.Drills(now.AddDate(-1, 0, 0)); !reflect.DeepEqual(d, map[string]int{"x": 1, "y": 0}) {
			t.Errorf("%v", d)
		}
	}
	if got := new(Report).Months(now); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// The marks of a real ledger are those that the report reads.
func TestReportReadsWhatIsWritten(t *testing.T) {
	r := record{ID: "A", ReasonCode: ReasonDrill, Stale: true}
	if e := r.audited("emergency", "allowed", r.ReasonCode); !e.Drill || e.Degraded != DegradedStale || e.Kind != "emergency" || e.Ref != "A" {
		t.Errorf("%+v", e)
	}
	v := Verdict{Accept: false}
	if "review-"+v.state() != "review-"+StateRejected {
		t.Error(v.state())
	}
	if e := r.event(notice{Kind: "emergency"}); !e.Drill || !e.Stale {
		t.Errorf("%+v", e)
	}
}

// Lines that the log itself does not write move nothing: a second beginning under a reference, at another time or place, and a
// verdict that is none. In whatever order they come, the earliest beginning counts.
func TestReportForged(t *testing.T) {
	genuine := `{"time":"2026-05-01T10:00:00.000Z","kind":"emergency","ref":"A","site":"x","decision":"allowed","reason":"life"}` + "\n"
	forged := `{"time":"2026-06-09T10:00:00.000Z","kind":"emergency","ref":"A","site":"y","decision":"allowed","reason":"drill","drill":true}` + "\n"
	verdict := `{"time":"2026-05-01T11:00:00.000Z","kind":"review","ref":"A","decision":"allowed","reason":"review-open","rule":"reviewer eve"}` + "\n"
	for _, log := range []string{genuine + forged + verdict, verdict + forged + genuine, genuine + genuine + forged + verdict} {
		var r Report
		if err := r.Read(strings.NewReader(log)); err != nil {
			t.Fatal(err)
		}
		want := []Month{{Month: "2026-05", Site: "x", Begun: 1, Overdue: 1}}
		if got := r.Months(time.Date(2026, 6, 10, 0, 0, 0, 0, time.UTC)); !reflect.DeepEqual(got, want) || r.Unreadable != 2 {
			t.Errorf("%+v, %d lines are no records", got, r.Unreadable)
		}
	}
}
