"""The style sheet of the page: light, dark, paper and phone."""

SHEET = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #5c6570; --line: #dde1e6;
  --paper: #ffffff; --back: #f4f5f7; --notice: #fff4e0; --accent: #0072b2; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #a9b1bb; --line: #3a404a; --paper: #181b20;
    --back: #101216; --notice: #3a2f16; --accent: #4aa3e0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.5;
  font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
header, section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem clamp(0.9rem, 3vw, 2rem); margin-bottom: 1.25rem; }
h1 { font-size: clamp(1.35rem, 4vw, 1.9rem); line-height: 1.2; margin: 0.1rem 0 0.7rem; }
h2 { font-size: 1.25rem; margin: 0 0 0.8rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 0.4rem; }
.run { color: var(--soft); font-size: 0.85rem; margin: 0; overflow-wrap: anywhere; }
.lead { font-size: 1.08rem; max-width: 52rem; }
.note { color: var(--soft); font-size: 0.9rem; max-width: 52rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr));
  gap: 0.7rem; margin: 1rem 0 0; }
.tiles div { border: 1px solid var(--line); border-radius: 8px; padding: 0.6rem 0.8rem; }
.tiles dt { color: var(--soft); font-size: 0.82rem; }
.tiles dd { margin: 0; font-size: 1.55rem; font-weight: 650; }
.tiles dd.loss { font-size: 0.8rem; font-weight: 400; color: var(--soft); }
.notices { background: var(--notice); border-radius: 8px; padding: 0.7rem 1rem 0.7rem 2rem;
  margin: 1rem 0 0; font-size: 0.92rem; overflow-wrap: anywhere; }
.pair { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0 0 1.1rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; width: 100%; }
th, td { text-align: left; padding: 0.32rem 0.7rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
.numbers td, .numbers thead th:not(:first-child) { text-align: right; }
.numbers td { white-space: nowrap; font-variant-numeric: tabular-nums; }
.numbers thead th { min-width: 4.5rem; }
.numbers tbody th { min-width: 4rem; }
.record th { min-width: 9rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.85em; }
code { overflow-wrap: anywhere; }
pre { overflow-x: auto; background: var(--back); padding: 0.9rem; border-radius: 8px; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; }
@media (max-width: 40rem) {
  figure .scroll img { max-width: none; width: auto; max-height: none; }
  .pair figure .scroll img { max-width: 100%; } }
@media print {
  :root { color-scheme: light; }
  body { background: none; font-size: 10pt; }
  main { max-width: none; padding: 0; }
  header, section { border: none; padding: 0 0 0.5rem; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .numbers td { white-space: normal; } }
"""
