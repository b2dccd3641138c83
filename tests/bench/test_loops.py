"""The cost of loops is read off machine code as nvdisasm prints it."""

from bench.loops import innermost_loops

_FILLER = "\n".join(f"        /*{at:04x}*/                   FFMA R0, R1, R2, R0 ;" for at in range(0x100, 0x4C0, 0x10))
_SASS = f"""
.text.kernel:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_2:
        /*0010*/                   IADD3 R3, R3, 0x1, RZ ;
.L_x_1:
        /*0020*/                   HGMMA.64x64x16.F32.BF16 R88, gdesc[UR8], RZ, !UPT ;
        /*0030*/                   HGMMA.64x128x16.F32.BF16 R24, R120, gdesc[UR8].tnspB, R24, gsb0 ;
        /*0040*/              @!P0 MUFU.EX2 R106, R106 ;
        /*0050*/                   F2FP.BF16.F32.PACK_AB R0, R1, R0 ;
        /*0060*/                   UIADD3 UR4, UR4, 0x1, URZ ;
{_FILLER}
        /*0a00*/               @P0 BRA `(.L_x_1) ;
        /*0a10*/               @P1 BRA `(.L_x_2) ;
        /*0a20*/                   EXIT ;
.L_x_3:
        /*0a30*/                   BRA `(.L_x_3);
"""


def test_units_of_a_loop() -> None:
    (loop,) = innermost_loops(_SASS)  # not the one around it, and not the trap at the end
    assert loop.tensor == 32 + 64
    assert loop.instructions["HGMMA"] == 2
    assert loop.cycles(warps=8) == {"tensor": 192, "issue": 132, "special": 16, "int": 4, "fp32": 120}


def test_no_loop() -> None:
    assert innermost_loops("") == []
