package hardening

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/anteroom-proxy/anteroom/audit"
)

const (
	kindJSON  = "application/json"
	kindLines = "text/plain; charset=utf-8"
)

// protect answers {"items":[{"record"}]}, {"record"} for a set, or a record a line.
func (c *call) protect(body []byte) error {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer c.giveAnswer(b)
	ctx := c.r.Context()
	if c.lines {
		body, n, err := countLines(body)
		if err != nil {
			return err
		}
		b.Grow(160 * n) // a longer record costs a copy
		out, err := c.service.protectLines(ctx, b.AvailableBuffer(), body, n, &c.spent)
		if err != nil {
			return err
		}
		return c.write(kindLines, out)
	}
	list := itemLists.Get().(*[]raw)
	defer giveItems(list)
	req, err := parseProtect(body, list)
	if err != nil {
		return err
	}
	if req.set != nil {
		c.uid = bytes.Clone(req.set.uid)
		b.Grow(maxSetRecord)
		out, err := c.service.protectSet(ctx, append(b.AvailableBuffer(), `{"record":"`...), req.set, &c.spent)
		if err != nil {
			return err
		}
		return c.write(kindJSON, append(out, `"}`+"\n"...))
	}
	c.cheap = len(req.items) < cheapUnits && !slices.ContainsFunc(req.items, func(i raw) bool { return !i.fast })
	if len(req.items) == 1 && !c.cheap {
		c.uid = bytes.Clone(req.items[0].uid)
	}
	b.Grow(180*len(req.items) + 64)
	out, err := c.service.protect(ctx, append(b.AvailableBuffer(), `{"items":[`...), req.items, frame{`{"record":"`, `"}`, ","}, &c.spent)
	if err != nil {
		return err
	}
	return c.write(kindJSON, append(out, "]}\n"...))
}

// itemLists are lists of items between requests.
var itemLists = sync.Pool{New: func() any { return new([]raw) }}

func giveItems(list *[]raw) {
	clear(*list)
	*list = (*list)[:0]
	itemLists.Put(list)
}

// verify answers {"match","needs_rehash","record"}.
func (c *call) verify(body []byte) error {
	v, err := parseVerify(body)
	if err != nil {
		return err
	}
	c.uid = bytes.Clone(v.uid)
	result, err := c.service.verify(c.r.Context(), &v, &c.spent)
	if err != nil {
		return err
	}
	answer := struct {
		Match       bool    `json:"match"`
		NeedsRehash bool    `json:"needs_rehash"`
		Record      *string `json:"record"`
	}{result.Match, result.NeedsRehash, nil}
	if result.Record != "" {
		answer.Record = &result.Record
	}
	if !result.Match {
		c.reason = "mismatch"
		if err := c.record("denied", c.reason, audit.NewRef()); err != nil {
			return err
		}
		text, err := encode(answer)
		if err != nil {
			return err
		}
		return c.send(kindJSON, text)
	}
	return c.writeJSON(answer)
}

// upgrade answers {"records":[{"record","changed"}]}, or a record a line. One that failed has "error" beside a null record.
func (c *call) upgrade(body []byte) error {
	records, _, err := c.records(body, upgradeNames)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("reading request: %w: no record", ErrInput)
	}
	done, err := c.service.upgrade(c.r.Context(), records, &c.spent)
	if err != nil {
		return err
	}
	if c.lines {
		var out []byte
		for _, u := range done {
			if u.Err != nil {
				out = append(append(out, "! "...), refusalFor(u.Err).kind...)
			}
			out = append(append(out, u.Record...), '\n')
		}
		return c.write(kindLines, out)
	}
	type one struct {
		Record  *string `json:"record"`
		Changed bool    `json:"changed"`
		Error   string  `json:"error,omitempty"`
	}
	answer := struct {
		Records []one `json:"records"`
	}{make([]one, len(done))}
	for i, u := range done {
		if answer.Records[i].Changed = u.Changed; u.Err != nil {
			answer.Records[i].Error = refusalFor(u.Err).kind
			continue
		}
		answer.Records[i].Record = &done[i].Record
	}
	return c.writeJSON(answer)
}

// census answers the sums so far, or with plain lines the layers of each record; the census's id is then in the header
// Anteroom-Census, and comes in the query as census=ID.
func (c *call) census(body []byte) error {
	records, req, err := c.records(body, censusNames)
	if err != nil {
		return err
	}
	if c.lines {
		req.census = c.r.URL.Query().Get("census")
	}
	sum, err := c.service.cfg.Ring.Count(c.r.Context(), req.census, records, req.done)
	if err != nil {
		return err
	}
	if !c.lines {
		return c.writeJSON(sum)
	}
	var out []byte
	for _, text := range records {
		rec, err := parseRecord(text)
		if err != nil {
			out = append(append(out, "! "...), refusalFor(err).kind...)
		}
		out = append(append(out, strings.Join(rec.layers, ".")...), '\n')
	}
	c.w.Header().Set("Anteroom-Census", sum.ID)
	return c.write(kindLines, out)
}

// records reads the body of upgrade and census.
func (c *call) records(body []byte, names []string) ([]string, recordsRequest, error) {
	var req recordsRequest
	var err error
	if c.lines {
		req.records, err = splitLines(body)
	} else {
		req, err = parseRecords(body, names)
	}
	if err != nil {
		return nil, req, err
	}
	list := make([]string, len(req.records))
	for i, r := range req.records {
		list[i] = string(r)
	}
	return list, req, nil
}

// statusLimits are what a caller may ask for.
type statusLimits struct {
	Units       int `json:"units"` // for each second
	Burst       int `json:"burst"`
	Records     int `json:"records"` // of one request: items, lines, entries of a set
	SlowItems   int `json:"slow_items"`
	BodyBytes   int `json:"body_bytes"`
	SecretBytes int `json:"secret_bytes"`
}

// status answers what the application must know of the ring: whether an upgrade is due.
func (c *call) status(body []byte) error {
	if err := parseEmpty(body); err != nil {
		return err
	}
	answer := struct {
		RingStatus
		Limits statusLimits `json:"limits"`
	}{c.service.cfg.Ring.Status(), statusLimits{Records: maxBatch, SlowItems: maxItems, BodyBytes: maxBody, SecretBytes: maxSecret}}
	answer.Limits.Units, answer.Limits.Burst = c.service.cfg.Limits.numbers()
	return c.writeJSON(answer)
}

func (c *call) writeJSON(answer any) error {
	text, err := encode(answer)
	if err != nil {
		return err
	}
	return c.write(kindJSON, text)
}

func encode(answer any) ([]byte, error) {
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("writing answer: %w", err)
	}
	return append(text, '\n'), nil
}
