package emergency

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
)

// Report counts emergency accesses out of audit logs: the review list forgets what was reviewed long ago, the log does not. The zero
// Report is ready; feed it the logs of all nodes, in any order, and a log twice does no harm. Whether a log is whole it does not say: that
// is what audit.Verify is for.
type Report struct {
	begun    map[string]begun
	verdicts map[string][]verdict
	failed   map[string][]verdict // those that could not be kept, or came second
	// Lines is how many were read, Unreadable how many of them were no records.
	Lines, Unreadable int
}

type begun struct {
	site         string
	at           time.Time
	drill, stale bool
}

type verdict struct {
	reason, by string
	at         time.Time
}

// Month is what happened at one site to the accesses that began within one month (UTC).
type Month struct {
	Month    string `json:"month"` // 2026-11
	Site     string `json:"site"`
	Begun    int    `json:"begun"`                 // drills included
	Drills   int    `json:"drills"`                //
	Stale    int    `json:"without_fresh_sign_in"` //
	Reviewed int    `json:"reviewed"`
	Accepted int    `json:"accepted"`
	Rejected int    `json:"rejected"`
	Late     int    `json:"late"`    // reviewed, and after ReviewWithin
	Overdue  int    `json:"overdue"` // not reviewed until now, although ReviewWithin is over
}

// maxLine is more than any record of the audit log has.
const maxLine = 64 << 10

// Read takes one file of the log. An error is the reader's.
func (t *Report) Read(from io.Reader) error {
	in := bufio.NewReaderSize(from, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(line) > 0 {
			if t.Lines++; long || !t.line(line) {
				t.Unreadable++
			}
		}
		if err != nil {
			return nil
		}
	}
}

func (t *Report) line(line []byte) bool {
	var r struct {
		Kind, Ref, Time, Site, Decision, Reason, Rule, Degraded string
		Drill                                                   bool
	}
	if json.Unmarshal(line, &r) != nil || r.Kind == "" {
		return false
	}
	if r.Kind != "emergency" && r.Kind != "review" {
		return true
	}
	at, err := time.Parse(time.RFC3339Nano, r.Time)
	if err != nil || r.Ref == "" {
		return false
	}
	if t.begun == nil {
		t.begun, t.verdicts, t.failed = map[string]begun{}, map[string][]verdict{}, map[string][]verdict{}
	}
	switch {
	case r.Kind == "emergency" && r.Decision == "allowed":
		return t.begin(r.Ref, begun{r.Site, at.UTC(), r.Drill, r.Degraded == DegradedStale})
	case r.Kind == "emergency":
	case r.Reason != "review-"+StateAccepted && r.Reason != "review-"+StateRejected:
		return false
	case r.Decision == "allowed":
		t.verdicts[r.Ref] = append(t.verdicts[r.Ref], verdict{r.Reason, r.Rule, at})
	default:
		t.failed[r.Ref] = append(t.failed[r.Ref], verdict{r.Reason, r.Rule, at})
	}
	return true
}

// stand are the verdicts on an access that were kept. A verdict stands in the log before it is kept, and what became of it after that,
// perhaps in another file.
func (t *Report) stand(ref string) []verdict {
	list := slices.Clone(t.verdicts[ref])
	for _, f := range t.failed[ref] {
		last := -1
		for i, v := range list {
			if v.reason == f.reason && v.by == f.by && !v.at.After(f.at) && (last < 0 || v.at.After(list[last].at)) {
				last = i
			}
		}
		if last >= 0 {
			list = slices.Delete(list, last, last+1)
		}
	}
	return list
}

// begin takes one beginning. No two have the same reference: of those that differ the earliest counts, and the others are no records, so
// that a line which somebody added later moves no access to another month or site and makes no drill of it.
func (t *Report) begin(ref string, b begun) bool {
	old, known := t.begun[ref]
	if !known || b.at.Before(old.at) {
		t.begun[ref] = b
	}
	return !known || b == old
}

// Months returns the counts, by month and site.
func (t *Report) Months(now time.Time) []Month {
	found := map[[2]string]*Month{}
	for id, b := range t.begun {
		key := [2]string{b.at.Format("2006-01"), b.site}
		m := found[key]
		if m == nil {
			m = &Month{Month: key[0], Site: key[1]}
			found[key] = m
		}
		m.add(b, t.stand(id), now)
	}
	list := make([]Month, 0, len(found))
	for _, m := range found {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Month) int { return strings.Compare(a.Month+"\x00"+a.Site, b.Month+"\x00"+b.Site) })
	return list
}

func (m *Month) add(b begun, verdicts []verdict, now time.Time) {
	m.Begun++
	if b.drill {
		m.Drills++
	}
	if b.stale {
		m.Stale++
	}
	due := b.at.Add(ReviewWithin)
	if len(verdicts) == 0 {
		if !now.Before(due) {
			m.Overdue++
		}
		return
	}
	m.Reviewed++
	v := slices.MinFunc(verdicts, func(a, b verdict) int { return a.at.Compare(b.at) })
	if v.reason == "review-"+StateRejected {
		m.Rejected++
	} else {
		m.Accepted++
	}
	if !v.at.Before(due) {
		m.Late++
	}
}

// Drills counts the drills of each site since a moment; a site without any emergency access at all is not among them.
func (t *Report) Drills(since time.Time) map[string]int {
	found := map[string]int{}
	for _, b := range t.begun {
		n := found[b.site]
		if b.drill && !b.at.Before(since) {
			n++
		}
		found[b.site] = n
	}
	return found
}

// Foreign is how many verdicts are about accesses that began in no log that was read: some log is missing.
func (t *Report) Foreign() (n int) {
	for id := range t.verdicts {
		if _, known := t.begun[id]; !known && len(t.stand(id)) > 0 {
			n++
		}
	}
	return n
}
