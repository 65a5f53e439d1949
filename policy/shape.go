package policy

import (
	"maps"
	"strings"
	"sync/atomic"
)

// The shape of a path is for the audit log: it says which page or record type it was, and not whose.

const (
	maxShape    = 512  // bytes of one
	maxShapes   = 1024 // that are kept
	maxPlaces   = 16   // of the tree that are followed at once
	maxSegments = 32   // of a path
)

// shapes holds the literals of all lines by their places.
type shapes struct {
	root  place
	known atomic.Pointer[map[string]string]
}

// place stands for the segments of patterns up to here.
type place struct {
	literal map[string]*place // by the segment in lower case
	text    string            // as it is written
	any     *place            // "*" and variables
}

func (s *shapes) add(r *rule) {
	for _, pattern := range r.patterns {
		at := &s.root
		for path := pattern; path != ""; {
			var segment string
			segment, path = cut(path)
			switch {
			case segment == "**":
				path = ""
			case isOpen(segment):
				if at.any == nil {
					at.any = &place{}
				}
				at = at.any
			default:
				next := at.literal[lower(segment)]
				if next == nil {
					next = &place{text: segment}
					if at.literal == nil {
						at.literal = map[string]*place{}
					}
					at.literal[lower(segment)] = next
				}
				at = next
			}
		}
	}
}

// Shape returns the path with "*" for every segment that no line has at that place, spelled as the line has it, and {user} for one
// that is the username. What is too long ends in "**". A shape that was seen before costs no memory.
func (p *Policy) Shape(r Request) string {
	if p == nil || r.Path.raw == "" {
		return ""
	}
	var buffer [maxShape]byte
	var here, next [maxPlaces]*place
	shape, places := buffer[:0], append(here[:0], &p.shapes.root)
	raw, folded, decoded := r.Path.raw, r.Path.folded, r.Path.decoded
	for n := 0; folded != ""; n++ {
		var spelled, segment, name string
		spelled, raw = cut(raw)
		segment, folded = cut(folded)
		name, decoded = cut(decoded)
		text, literal := "*", false
		following := next[:0]
		for _, at := range places {
			if l := at.literal[segment]; l != nil && len(following) < maxPlaces {
				literal = true
				if spelled == l.text || p.loose && equalFold(segment, spelled) {
					text = l.text // whoever replays it judges the spelling of the line
				}
				following = append(following, l)
			}
			if at.any != nil && len(following) < maxPlaces {
				following = append(following, at.any)
			}
		}
		if !literal && r.Who != nil && r.Who.Username != "" && name == r.Who.Username {
			text = "{user}"
		}
		if name == "" {
			text = ""
		}
		if n == maxSegments || len(shape)+1+len(text)+len("/**") > maxShape {
			shape = append(shape, "/**"...)
			break
		}
		shape = append(append(shape, '/'), text...)
		here, next = next, here
		places = here[:len(following)]
	}
	return p.shapes.intern(shape)
}

// intern returns the shape as a text, the same one each time for as many as are kept.
func (s *shapes) intern(shape []byte) string {
	known := s.known.Load()
	if known != nil {
		if text, ok := (*known)[string(shape)]; ok {
			return text
		}
	}
	text := strings.Clone(string(shape))
	if known != nil && len(*known) >= maxShapes {
		return text
	}
	more := map[string]string{text: text}
	if known != nil {
		maps.Copy(more, *known)
	}
	s.known.CompareAndSwap(known, &more) // of two at once one is kept, and the other the next time
	return text
}
