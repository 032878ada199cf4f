"""Recovery: adapt what is digital to the array that there is. One loop, three slots.

*Where* the correction lives (`places`), *which* entries (`masks`), *which* loss (`losses`);
`loop.adapt` trains it from readback, and `rsa` is one setting of the three.
"""
